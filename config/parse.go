package config

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile bounds what is read as a configuration.
const maxFile = 1 << 20

// Load reads the file over the defaults. Its error is an Errors with everything that is wrong, or that of reading.
func Load(path string) (Config, error) {
	data, err := readFile(path)
	if err != nil {
		return Default(), err
	}
	return Parse(path, data)
}

// Parse reads YAML strictly over the defaults; file is the name to show in errors. An empty document is the defaults.
func Parse(file string, data []byte) (Config, error) {
	p := newParse(file)
	p.read(data)
	l, err := p.finish()
	return l.Config, err
}

func newParse(file string) *parse {
	return &parse{file: file, config: Default(), lines: map[string]int{}, variables: map[string]string{}}
}

// read walks a file.
func (p *parse) read(data []byte) {
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		p.syntax(err)
		return
	}
	p.documents(tree.Docs)
}

// finish checks the whole and gives it with its errors: those of the file by line, then those of variables.
func (p *parse) finish() (Loaded, error) {
	if !p.broken {
		p.together()
	}
	l := Loaded{Config: p.config, File: p.file, From: p.from()}
	if len(p.errs) == 0 {
		return l, nil
	}
	sort.SliceStable(p.errs, func(i, j int) bool {
		a, b := p.errs[i], p.errs[j]
		if ours := a.File == p.file; ours != (b.File == p.file) {
			return ours
		}
		return a.Line < b.Line
	})
	return l, p.errs
}

// parse is one reading of a file: it walks the tree and goes on after each error.
type parse struct {
	file      string
	config    Config
	lines     map[string]int    // field → line where it is set
	variables map[string]string // field → variable that set it over the file
	broken    bool              // the file is no YAML
	errs      Errors
}

// fail notes an error of a field at its line; inVariable stands for the variable that set one.
func (p *parse) fail(line int, field, format string, args ...any) {
	if line >= inVariable {
		p.failVariable(p.variables[names()[line-inVariable]], field, format, args...)
		return
	}
	p.errs = append(p.errs, Error{File: p.file, Line: line, Field: field, Text: fmt.Sprintf(format, args...)})
}

// syntax notes what the YAML parser could not read; it stops at its first error.
func (p *parse) syntax(err error) {
	p.broken = true
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		p.fail(at.GetToken().Position.Line, "", "%s (column %d)", at.GetMessage(), at.GetToken().Position.Column)
		return
	}
	p.fail(0, "", "%s", strings.SplitN(err.Error(), "\n", 2)[0])
}

// documents walks the one document of a file.
func (p *parse) documents(docs []*ast.DocumentNode) {
	seen := false
	for _, doc := range docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType || doc.Body.Type() == ast.NullType {
			continue
		}
		if seen {
			p.fail(line(doc.Body), "", "a second YAML document begins here; put everything into one")
			return
		}
		seen = true
		p.section("", doc.Body)
	}
}

// section walks the fields of one section.
func (p *parse) section(prefix string, node ast.Node) {
	switch node := node.(type) {
	case *ast.MappingNode:
		for _, value := range node.Values {
			p.entry(prefix, value)
		}
	case *ast.MappingValueNode:
		p.entry(prefix, node)
	case *ast.NullNode: // "listen:" with nothing under it
	default:
		p.fail(line(node), strings.TrimSuffix(prefix, "."), "%s is not a list of fields; write \"name: value\" lines", show(node))
	}
}

// entry takes one "name: value".
func (p *parse) entry(prefix string, entry *ast.MappingValueNode) {
	name := prefix + entry.Key.GetToken().Value
	at := entry.Key.GetToken().Position.Line
	if before, ok := p.lines[name]; ok {
		p.fail(at, name, "is already set on line %d; keep one of the two", before)
		return
	}
	p.lines[name] = at
	if isSection(name) {
		p.section(name+".", entry.Value)
		return
	}
	f, ok := lookup(name)
	if !ok {
		p.fail(at, name, "unknown field%s", suggest(name))
		return
	}
	p.value(f, name, at, entry.Value)
}

// value sets one field. A field with nothing behind it keeps its default.
func (p *parse) value(f field, name string, at int, node ast.Node) {
	if _, empty := node.(*ast.NullNode); empty {
		return
	}
	values, ok := scalars(node)
	if !ok || (len(values) != 1 && !f.list) {
		p.fail(at, name, "%s is not %s", show(node), f.want)
		return
	}
	if err := f.set(&p.config, values); err != nil {
		p.fail(at, name, "%s; want %s", err, f.want)
	}
}

// scalars are the texts of a scalar or of a sequence of scalars.
func scalars(node ast.Node) ([]string, bool) {
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		text, ok := scalar(node)
		return []string{text}, ok
	}
	values := make([]string, 0, len(list.Values))
	for _, item := range list.Values {
		text, ok := scalar(item)
		if !ok {
			return nil, false
		}
		values = append(values, text)
	}
	return values, true
}

// scalar is the text of a node as it was written, so that *40 in quotes, 30s and 20000-29999 all arrive whole.
func scalar(node ast.Node) (string, bool) {
	switch node := node.(type) {
	case *ast.LiteralNode:
		return node.Value.Value, true
	case ast.ScalarNode:
		return node.GetToken().Value, true
	}
	return "", false
}

// show quotes a node for an error, on one line.
func show(node ast.Node) string {
	text := strings.Join(strings.Fields(node.String()), " ")
	if len(text) > 40 {
		text = text[:40] + "…"
	}
	return fmt.Sprintf("%q", text)
}

func line(node ast.Node) int { return node.GetToken().Position.Line }
