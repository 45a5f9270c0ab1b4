// Command baton is the node and the tool to speak with it.
package main

import (
	"fmt"
	"os"
)

func main() {
	cmd := root()
	cmd.SetOut(screenOf(os.Stdout))
	if err := cmd.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, message(err))
		os.Exit(status(err))
	}
}
