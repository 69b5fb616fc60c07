"""What vision experts see in an image, how far it can be relied on, and the verdicts on claims that follow."""
