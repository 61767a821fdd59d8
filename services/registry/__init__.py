"""The registry: owns projects, providers, versions, deployments and API keys, and tells every service what changed."""
