package main

type verifyCommand struct{}

func (c *verifyCommand) Run(env *environment) error { return nil }
