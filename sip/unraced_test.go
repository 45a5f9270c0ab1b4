//go:build !race

package sip

const raced = false
