"""What every model shares: settings, training, evaluation, checkpoints, serving and commands."""
