"""X-WAM: denoises video, actions and measured states together, with an optional depth branch."""
