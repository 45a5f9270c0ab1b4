// Package chart draws lines over a logarithmic axis as SVG, for the figures that documents show. It knows nothing of what they mean.
package chart

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// Chart is one picture: lines over x, which is logarithmic, as y is if it says so.
type Chart struct {
	Title    string
	Subtitle string
	X, Y     string // what the axes are of, with the unit
	LogY     bool
	Lines    []Line
}

// Line is one row of points, in the order of x.
type Line struct {
	Name   string
	Colour string // as CSS has it
	Dashed bool
	Points []Point
}

// Point is one figure. A doubtful one is drawn hollow.
type Point struct {
	X, Y     float64
	Doubtful bool
}

// The picture, in pixels.
const (
	width, height = 860, 480
	left, right   = 72, 24
	top, bottom   = 92, 58
	legendRow     = 66
)

// SVG is the chart as a file. Points that a logarithm cannot show are put on the lower edge.
func (c Chart) SVG() []byte {
	x, y := c.axes()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="13" fill="#24292f">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&b, "<title>%s</title>\n", html.EscapeString(c.Title))
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="6" fill="#ffffff"/>`+"\n", width, height)
	text(&b, left, 28, `font-size="17" font-weight="600"`, c.Title)
	text(&b, left, 46, `fill="#57606a"`, c.Subtitle)
	c.legend(&b)
	x.draw(&b, true)
	y.draw(&b, false)
	text(&b, (left+width-right)/2, height-14, `text-anchor="middle"`, c.X)
	text(&b, 0, 0, fmt.Sprintf(`text-anchor="middle" transform="translate(20 %d) rotate(-90)"`, (top+height-bottom)/2), c.Y)
	for _, l := range c.Lines {
		l.draw(&b, x, y)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

func text(b *strings.Builder, x, y float64, attributes, s string) {
	fmt.Fprintf(b, `<text x="%s" y="%s" %s>%s</text>`+"\n", short(x), short(y), attributes, html.EscapeString(s))
}

// short is a number without digits that nobody sees.
func short(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// legend names the lines, one beside the other.
func (c Chart) legend(b *strings.Builder) {
	at := float64(left)
	for _, l := range c.Lines {
		fmt.Fprintf(b, `<line x1="%s" y1="%d" x2="%s" y2="%d" %s/>`+"\n", short(at), legendRow, short(at+26), legendRow, l.stroke())
		fmt.Fprintf(b, `<circle cx="%s" cy="%d" r="3.5" fill="%s"/>`+"\n", short(at+13), legendRow, l.Colour)
		text(b, at+33, legendRow+4.5, "", l.Name)
		at += 33 + 7.2*float64(len([]rune(l.Name))) + 24
	}
}

func (l Line) stroke() string {
	s := fmt.Sprintf(`stroke="%s" stroke-width="2"`, l.Colour)
	if l.Dashed {
		s += ` stroke-dasharray="6 4"`
	}
	return s
}

func (l Line) draw(b *strings.Builder, x, y axis) {
	var path []string
	for _, p := range l.Points {
		path = append(path, short(x.at(p.X))+","+short(y.at(p.Y)))
	}
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke-linejoin="round" %s/>`+"\n", strings.Join(path, " "), l.stroke())
	for _, p := range l.Points {
		fill := l.Colour
		if p.Doubtful {
			fill = "#ffffff"
		}
		fmt.Fprintf(b, `<circle cx="%s" cy="%s" r="4" fill="%s" stroke="%s" stroke-width="1.5"><title>%s: %s at %s</title></circle>`+"\n",
			short(x.at(p.X)), short(y.at(p.Y)), fill, l.Colour, html.EscapeString(l.Name), strconv.FormatFloat(p.Y, 'g', 3, 64), thousands(p.X))
	}
}

// axis brings values to their places.
type axis struct {
	from, to float64 // values at its ends
	low, up  float64 // where these are, in pixels
	log      bool
	ticks    []float64
}

func (a axis) at(v float64) float64 {
	from, to := a.from, a.to
	if v = min(max(v, from), to); a.log {
		v, from, to = math.Log10(v), math.Log10(from), math.Log10(to)
	}
	return a.low + (v-from)/(to-from)*(a.up-a.low)
}

// axes are as long as the points want it.
func (c Chart) axes() (x, y axis) {
	x = axis{from: math.Inf(1), to: math.Inf(-1), low: left, up: width - right, log: true}
	y = axis{from: math.Inf(1), low: height - bottom, up: top, log: c.LogY}
	for _, l := range c.Lines {
		for _, p := range l.Points {
			x.from, x.to = min(x.from, p.X), max(x.to, p.X)
			y.to = max(y.to, p.Y)
			if p.Y > 0 {
				y.from = min(y.from, p.Y)
			}
		}
	}
	if x.from > x.to || x.from <= 0 || y.to <= 0 {
		x.from, x.to, y.from, y.to = 1, 10, 1, 10 // there is nothing to show
	}
	x.span()
	if c.LogY {
		y.span()
	} else {
		y.from = 0
		step := stepFor(y.to)
		y.to = step * math.Ceil(y.to/step)
		for v := 0.0; v <= y.to*1.001; v += step {
			y.ticks = append(y.ticks, v)
		}
	}
	return x, y
}

// span has a logarithmic axis begin and end at a number of its own. Of many decades each has one.
func (a *axis) span() {
	if a.from, a.to = below(a.from), above(a.to); a.from == a.to {
		a.to *= 10
	}
	for _, v := range series(a.from, a.to) {
		if whole := math.Log10(v); a.to/a.from < 2000 || math.Abs(whole-math.Round(whole)) < 0.01 {
			a.ticks = append(a.ticks, v)
		}
	}
}

// series are 1, 2 and 5 of each power of ten between two values.
func series(from, to float64) (all []float64) {
	for e := math.Floor(math.Log10(from)); e <= math.Ceil(math.Log10(to)); e++ {
		for _, m := range []float64{1, 2, 5} {
			if v := m * math.Pow(10, e); v >= from*0.999 && v <= to*1.001 {
				all = append(all, v)
			}
		}
	}
	return all
}

// below and above are the next numbers of that series.
func below(v float64) float64 {
	return last(series(v/10, v))
}

func above(v float64) float64 {
	for _, next := range series(v, v*10) {
		return next
	}
	return v
}

func last(all []float64) float64 { return all[len(all)-1] }

// stepFor makes five to ten steps of a linear axis.
func stepFor(to float64) float64 {
	e := math.Pow(10, math.Floor(math.Log10(to)))
	for _, m := range []float64{0.1, 0.2, 0.5, 1} {
		if to/(m*e) <= 10 {
			return m * e
		}
	}
	return e
}

// draw draws the axis' lines across the picture, and its numbers.
func (a axis) draw(b *strings.Builder, across bool) {
	for _, v := range a.ticks {
		at := a.at(v)
		if across {
			fmt.Fprintf(b, `<line x1="%[1]s" y1="%[2]d" x2="%[1]s" y2="%[3]d" stroke="#eaeef2"/>`+"\n", short(at), top, height-bottom)
			text(b, at, height-bottom+20, `text-anchor="middle" fill="#57606a"`, thousands(v))
			continue
		}
		fmt.Fprintf(b, `<line x1="%[1]d" y1="%[2]s" x2="%[3]d" y2="%[2]s" stroke="#d8dee4"/>`+"\n", left, short(at), width-right)
		text(b, left-9, at+4.5, `text-anchor="end" fill="#57606a"`, thousands(v))
	}
}

// thousands writes a number as people do: 5,000 and 0.02.
func thousands(v float64) string {
	s := strconv.FormatFloat(v, 'f', -1, 64)
	if v < 1 {
		s = strconv.FormatFloat(v, 'g', 3, 64)
	}
	whole, rest, point := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if point {
		return whole + "." + rest[:min(len(rest), 4)]
	}
	return whole
}
