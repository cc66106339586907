package main

type demoCommand struct{}

func (c *demoCommand) Run(env *environment) error { return nil }
