package main

import (
	"encoding/csv"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"baton/web"
)

// csvHeading names the columns of "baton log --csv".
var csvHeading = []string{"time", "kind", "call", "user", "device", "from", "peer", "seconds", "text", "data"}

// csvPrinter writes entries for a spreadsheet (RFC 4180).
type csvPrinter struct {
	w     *csv.Writer
	begun bool
}

func newCSV(out io.Writer) *csvPrinter { return &csvPrinter{w: csv.NewWriter(out)} }

// heading writes the names of the columns, once.
func (p *csvPrinter) heading() error {
	if !p.begun {
		p.begun = true
		_ = p.w.Write(csvHeading) // Error tells
		p.w.Flush()
	}
	return p.w.Error()
}

func (p *csvPrinter) one(e web.Entry) error {
	if err := p.heading(); err != nil {
		return err
	}
	seconds := ""
	if e.Duration > 0 {
		seconds = strconv.FormatFloat(e.Duration.Seconds(), 'f', 3, 64)
	}
	var data []string
	for _, name := range slices.Sorted(maps.Keys(e.Data)) {
		data = append(data, name+"="+e.Data[name])
	}
	row := []string{
		e.Time.Local().Format(time.RFC3339), string(e.Kind), e.Call, e.User, e.Device, e.From, e.Peer, seconds, e.Text, strings.Join(data, " "),
	}
	for i, cell := range row {
		row[i] = inert(cell)
	}
	_ = p.w.Write(row) // Error tells
	p.w.Flush()
	return p.w.Error()
}

// inert keeps a spreadsheet from taking for a formula what came from the network: such a cell begins with an apostrophe.
func inert(cell string) string {
	cell = clean(cell)
	if cell != "" && strings.ContainsRune("=+-@", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}
