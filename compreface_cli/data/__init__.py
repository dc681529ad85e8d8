"""What `cf` does with the face data of an instance: lists, keeps, moves, heals and removes it."""
