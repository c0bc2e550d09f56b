"""What `import basiscli` offers: functions of arrays, and networks."""
