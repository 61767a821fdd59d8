"""Pure rules about completions that several rooms need: version, template, schema."""
