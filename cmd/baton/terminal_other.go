//go:build !unix

package main

import "os"

func isTerminal(*os.File) bool { return false }

func terminalSize(*os.File) (width, height int) { return fallbackWidth, 24 }

func resized() (changes chan os.Signal, stop func()) { return nil, func() {} }
