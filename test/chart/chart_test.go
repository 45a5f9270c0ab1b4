package chart

import (
	"encoding/xml"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
)

// element is what a test looks at of a picture.
type element struct {
	name string
	attr map[string]string
	text string
}

// read reads a picture; what is no XML fails the test.
func read(t *testing.T, c Chart) (all []element) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(c.SVG())))
	for {
		token, err := d.Token()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := element{name: token.Name.Local, attr: map[string]string{}}
			for _, a := range token.Attr {
				e.attr[a.Name.Local] = a.Value
			}
			all = append(all, e)
		case xml.CharData:
			if len(all) > 0 {
				all[len(all)-1].text += strings.TrimSpace(string(token))
			}
		}
	}
}

var sample = Chart{
	Title: "a < b & c", X: "calls", Y: "ms", Lines: []Line{
		{Name: "one", Colour: "#0969da", Points: []Point{{X: 10, Y: 4}, {X: 100, Y: 8}, {X: 1000, Y: 16, Doubtful: true}}},
		{Name: "two", Colour: "#cf222e", Dashed: true, Points: []Point{{X: 10, Y: 0}, {X: 1000, Y: 2}}},
	},
}

// TestPlaces: each point stands where its values put it, on either kind of axis.
func TestPlaces(t *testing.T) {
	for _, log := range []bool{false, true} {
		c := sample
		c.LogY = log
		var cx, cy []float64
		hollow := 0
		for _, e := range read(t, c) {
			if e.name == "circle" && e.attr["r"] == "4" {
				x, _ := strconv.ParseFloat(e.attr["cx"], 64)
				y, _ := strconv.ParseFloat(e.attr["cy"], 64)
				cx, cy = append(cx, x), append(cy, y)
				if e.attr["fill"] == "#ffffff" {
					hollow++
				}
				if x < left || x > width-right || y < top || y > height-bottom {
					t.Errorf("a point is outside, at %g, %g", x, y)
				}
			}
		}
		if len(cx) != 5 || hollow != 1 {
			t.Fatalf("%d points, %d hollow, want 5 and 1", len(cx), hollow)
		}
		if math.Abs(cx[1]-(cx[0]+cx[2])/2) > 0.2 {
			t.Errorf("100 is not midway between 10 and 1000: %v", cx[:3])
		}
		down, up := cy[0]-cy[1], cy[1]-cy[2] // 4 → 8 → 16
		if log && math.Abs(down-up) > 0.3 || !log && math.Abs(2*down-up) > 0.3 {
			t.Errorf("log %v: 4, 8 and 16 are %g and %g apart", log, down, up)
		}
		if math.Abs(cy[3]-(height-bottom)) > 0.1 {
			t.Errorf("log %v: 0 is not on the lower edge but at %g", log, cy[3])
		}
	}
}

// TestWords: title, axes, lines and the numbers of the axes are written, whatever is in them.
func TestWords(t *testing.T) {
	words := map[string]bool{}
	for _, e := range read(t, sample) {
		if e.name == "text" {
			words[e.text] = true
		}
	}
	for _, want := range []string{"a < b & c", "calls", "ms", "one", "two", "10", "20", "1,000", "0", "16"} {
		if !words[want] {
			t.Errorf("%q is not written", want)
		}
	}
}

// TestNothing: a chart without points, or with one, is one all the same.
func TestNothing(t *testing.T) {
	for _, lines := range [][]Line{nil, {{Name: "none"}}, {{Name: "one", Points: []Point{{X: 5, Y: 5}}}}, {{Name: "zero", Points: []Point{{X: 5}}}}} {
		for _, log := range []bool{false, true} {
			if s := string((Chart{Lines: lines, LogY: log}).SVG()); strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
				t.Errorf("%v: not a number", lines)
			}
		}
	}
}
