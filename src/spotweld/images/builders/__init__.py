"""The programs that run Dockerfiles, and the ladder that makes each finished instruction durable."""
