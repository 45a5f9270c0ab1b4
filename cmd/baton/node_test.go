package main

import (
	"slices"
	"testing"

	"baton/config"
)

// TestStrangers finds the names in groups and watch that no user has.
func TestStrangers(t *testing.T) {
	c, err := config.Parse("baton.yaml", []byte(`
groups: {sales: [alice, "102", alise]}
watch: {carl: ["*"], "@sales": [alice, "@sales", bop]}
`))
	if err != nil {
		t.Fatal(err)
	}
	got := strangers(c, func(name string) bool { return name == "alice" || name == "102" })
	want := [][2]string{{"groups.sales", "alise"}, {"watch.@sales", "bop"}, {"watch.carl", "carl"}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
