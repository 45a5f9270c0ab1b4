package config

import (
	"errors"
	"fmt"
	"os"
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
	info, err := os.Stat(path)
	if err != nil {
		return Default(), fmt.Errorf("read configuration: %w", err)
	}
	if info.IsDir() || info.Size() > maxFile {
		return Default(), fmt.Errorf("read configuration: %s is no configuration file", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Default(), fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse reads YAML strictly over the defaults; file is the name to show in errors. An empty document is the defaults.
func Parse(file string, data []byte) (Config, error) {
	p := parse{file: file, config: Default(), lines: map[string]int{}}
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		p.syntax(err)
		return p.config, p.errs
	}
	p.documents(tree.Docs)
	p.together()
	if len(p.errs) > 0 {
		sort.SliceStable(p.errs, func(i, j int) bool { return p.errs[i].Line < p.errs[j].Line })
		return p.config, p.errs
	}
	return p.config, nil
}

// parse is one reading of a file: it walks the tree and goes on after each error.
type parse struct {
	file   string
	config Config
	lines  map[string]int // field → line where it is set
	errs   Errors
}

// fail notes an error of a field.
func (p *parse) fail(line int, field, format string, args ...any) {
	p.errs = append(p.errs, Error{File: p.file, Line: line, Field: field, Text: fmt.Sprintf(format, args...)})
}

// syntax notes what the YAML parser could not read; it stops at its first error.
func (p *parse) syntax(err error) {
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
	f, ok := fields[name]
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
