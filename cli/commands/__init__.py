"""One module per command of `troth`; `cli.main` names them and imports a module only when its command is run."""
