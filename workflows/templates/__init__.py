"""WorkflowTemplates, written with hera and rendered to the YAML that engines run."""
