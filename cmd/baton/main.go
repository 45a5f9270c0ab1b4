// Command baton is the node and the tool to speak with it.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := root().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, message(err))
		os.Exit(status(err))
	}
}
