"""The toolbox: everything a service needs that is not about deployments. Knows no noun of ours."""
