"""What a Dockerfile says, told without building: findings (`--check`), outlines and targets (`--call`)."""
