"""What the tabular algorithms of JumpStart share: channels, problems, requests and answers."""
