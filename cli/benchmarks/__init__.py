"""What `troth bench` measures, one concern a module. Figures are of this machine and this run: compare their ratios."""
