"""What the operator writes, and what everyone must spell alike."""
