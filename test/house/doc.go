// Package house holds the order of baton's packages: who may import whom.
package house
