"""A page and figures for programs about runs that go on or have ended: `view` reads, `server` answers, `page` draws."""
