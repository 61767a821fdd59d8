"""`turnout apply`: prompts, providers and deployments as files say."""
