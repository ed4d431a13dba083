"""What a Dockerfile says, and what its ignore file leaves out."""
