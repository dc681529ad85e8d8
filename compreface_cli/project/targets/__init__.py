"""What a plan can be rendered for, a module a target: today a Compose project."""
