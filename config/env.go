package config

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
)

// prefix begins the name of every variable.
const prefix = "BATON_"

// inVariable and more is the line of a field that a variable has set: behind those of any file.
const inVariable = maxFile + 1

// The kinds of places where a value can come from.
const (
	FromDefault  = "default"
	FromFile     = "file"
	FromVariable = "variable"
	FromFlag     = "flag"
)

// Source says where a value in force came from.
type Source struct {
	Kind string `json:"kind"`           // default, file, variable, flag
	Name string `json:"name,omitempty"` // of the file, variable or flag
	Line int    `json:"line,omitempty"` // in the file
}

// String is the place as people write it: default, baton.yaml:3, BATON_DATA, --data.
func (s Source) String() string {
	switch s.Kind {
	case FromDefault, "":
		return FromDefault
	case FromFile:
		return fmt.Sprintf("%s:%d", s.Name, s.Line)
	}
	return s.Name
}

// Setting is one field with what is in force.
type Setting struct {
	Field  string   `json:"field"`  // dotted name
	Values []string `json:"values"` // one, or the items of a list
	From   Source   `json:"from"`
}

// Loaded is a configuration with the place that each field came from; what is not in From is a default.
type Loaded struct {
	Config
	File string            // what was read, "" = none
	From map[string]Source // field → place
}

// Variable is the name of the environment variable that overrides a field: BATON_LISTEN_UDP for listen.udp.
func Variable(field string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(field, ".", "_"))
}

// LoadEnv reads the file ("" = none) over the defaults, and the variables among environ ("NAME=value") over both. An
// empty variable is one that is not set. Its error is an Errors with everything that is wrong, or that of reading; the
// fields that are right are set all the same.
func LoadEnv(path string, environ []string) (Loaded, error) {
	var data []byte
	if path != "" {
		var err error
		if data, err = readFile(path); err != nil {
			return Loaded{Config: Default(), File: path}, err
		}
	}
	p := newParse(path)
	p.read(data)
	p.environment(environ)
	return p.finish()
}

// environment sets the fields that variables name.
func (p *parse) environment(environ []string) {
	by := map[string]string{}
	for _, v := range environ {
		if name, value, ok := strings.Cut(v, "="); ok && value != "" {
			by[name] = value
		}
	}
	for i, name := range names() {
		value, ok := by[Variable(name)]
		if !ok {
			continue
		}
		f := fields[name]
		p.variables[name] = Variable(name)
		p.lines[name] = inVariable + i
		if err := f.set(&p.config, items(f, value)); err != nil {
			p.failVariable(Variable(name), name, "%s; want %s", err, f.want)
		}
	}
}

// items are the values of a variable: a list is written with commas.
func items(f field, value string) []string {
	if !f.list {
		return []string{value}
	}
	var all []string
	for item := range strings.SplitSeq(strings.Trim(strings.TrimSpace(value), "[]"), ",") {
		if item = strings.TrimSpace(item); item != "" {
			all = append(all, item)
		}
	}
	return all
}

func (p *parse) failVariable(variable, field, format string, args ...any) {
	p.errs = append(p.errs, Error{File: variable, Field: field, Text: fmt.Sprintf(format, args...)})
}

// from lists where each field that was set came from.
func (p *parse) from() map[string]Source {
	from := map[string]Source{}
	all := names()
	for name := range p.lines {
		if _, ok := fields[name]; !ok && !isSection(name) {
			all = append(all, name)
		}
	}
	for _, name := range all {
		if variable, ok := p.variables[name]; ok {
			from[name] = Source{Kind: FromVariable, Name: variable}
		} else if at := p.lines[name]; at > 0 {
			from[name] = Source{Kind: FromFile, Name: p.file, Line: at}
		}
	}
	return from
}

// names are all fields, sorted.
func names() []string {
	all := make([]string, 0, len(fields))
	for name := range fields {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// Settings lists every field with its value in force and where that came from, in the order of the sections.
func (l Loaded) Settings() []Setting {
	var all []Setting
	walk("", reflect.ValueOf(l.Config), func(field string, v reflect.Value) {
		from, ok := l.From[field]
		if !ok {
			from = Source{Kind: FromDefault}
		}
		all = append(all, Setting{Field: field, Values: texts(v), From: from})
	})
	return all
}

// walk visits the fields of a section by their names in the file.
func walk(prefix string, section reflect.Value, visit func(string, reflect.Value)) {
	if l, ok := section.Interface().(Lists); ok {
		for _, name := range slices.Sorted(maps.Keys(l)) {
			visit(prefix+name, reflect.ValueOf(l[name]))
		}
		return
	}
	for i := range section.NumField() {
		name, _, _ := strings.Cut(section.Type().Field(i).Tag.Get("yaml"), ",")
		if name == "" {
			continue
		}
		if full := prefix + name; isSection(full) {
			walk(full+".", section.Field(i), visit)
		} else {
			visit(full, section.Field(i))
		}
	}
}

// texts is a value as it is written in the file.
func texts(v reflect.Value) []string {
	if v.Kind() != reflect.Slice {
		return []string{fmt.Sprint(v.Interface())}
	}
	all := make([]string, v.Len())
	for i := range all {
		all[i] = fmt.Sprint(v.Index(i).Interface())
	}
	return all
}

// FromSettings is the configuration that Settings has listed: what a node tells of itself. A field that this program
// does not know is left out.
func FromSettings(all []Setting) (Config, error) {
	c := Default()
	for _, s := range all {
		f, known := lookup(s.Field)
		if !known || len(s.Values) == 1 && s.Values[0] == "" {
			continue
		}
		if len(s.Values) != 1 && !f.list {
			return c, fmt.Errorf("%s: %d values, want one", s.Field, len(s.Values))
		}
		if err := f.set(&c, s.Values); err != nil {
			return c, fmt.Errorf("%s: %w", s.Field, err)
		}
	}
	return c, nil
}

// Misspelt lists the variables that begin as those of a section do but name no field of it.
func Misspelt(environ []string) []string {
	var all []string
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		if rest, ours := strings.CutPrefix(name, prefix); ours && value != "" && misspelt(rest) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

func misspelt(rest string) bool {
	inSection := false
	for section := range lists { // no variable names a field of theirs
		inSection = inSection || strings.HasPrefix(rest, strings.ToUpper(section)+"_")
	}
	for name := range fields {
		if Variable(name) == prefix+rest {
			return false
		}
		section, _, found := strings.Cut(name, ".")
		inSection = inSection || found && strings.HasPrefix(rest, strings.ToUpper(section)+"_")
	}
	return inSection
}

// readFile reads what may be a configuration.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if info.IsDir() || info.Size() > maxFile {
		return nil, fmt.Errorf("read configuration: %s is no configuration file", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return data, nil
}
