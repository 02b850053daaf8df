"""Programs short enough to copy: what one does with a running inference server."""
