"""From one codebook to the next: lease, copy in write order, verification, alias switch."""
