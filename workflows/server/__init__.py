"""The server that every model runs behind: it knows MLflow's pyfunc and nothing of any one model."""
