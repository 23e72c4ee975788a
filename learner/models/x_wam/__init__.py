"""X-WAM: video, actions and measured states denoised together, with depth on the side."""
