//go:build !linux

package main

import "os"

func quiet(*os.File) (restore func()) { return func() {} }
