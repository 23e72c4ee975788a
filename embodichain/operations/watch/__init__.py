"""A web page and metrics about running and finished runs: `view` reads runs, `server` answers requests, `page` is the page."""
