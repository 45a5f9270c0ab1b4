package web

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// document is docs/openapi.yaml.
type document struct {
	all   map[string]any
	paths map[string]map[string]any
}

var readDocument = sync.OnceValues(func() (*document, error) {
	text, err := os.ReadFile("../docs/openapi.yaml")
	if err != nil {
		return nil, err
	}
	d := &document{paths: map[string]map[string]any{}}
	if err := yaml.Unmarshal(text, &d.all); err != nil {
		return nil, err
	}
	for path, ops := range d.all["paths"].(map[string]any) {
		d.paths[path] = ops.(map[string]any)
	}
	return d, nil
})

func openAPI(t testing.TB) *document {
	t.Helper()
	d, err := readDocument()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// at goes down by keys.
func at(v any, keys ...string) any {
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

// resolved follows a $ref; what stands beside it is description alone.
func (d *document) resolved(schema any) map[string]any {
	m, _ := schema.(map[string]any)
	if ref, ok := m["$ref"].(string); ok {
		return d.resolved(at(d.all, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...))
	}
	return m
}

// holds checks a value against a schema, and that nothing is in it that the schema does not name.
func (d *document) holds(schema, v any, where string) error {
	s := d.resolved(schema)
	if s == nil {
		return fmt.Errorf("%s: has no schema", where)
	}
	if allowed, ok := s["enum"].([]any); ok && !slices.Contains(allowed, v) {
		return fmt.Errorf("%s: %v is none of %v", where, v, allowed)
	}
	switch v := v.(type) {
	case map[string]any:
		return d.holdsObject(s, v, where)
	case []any:
		if s["type"] != "array" {
			return fmt.Errorf("%s: is an array, not %v", where, s["type"])
		}
		for i, one := range v {
			if err := d.holds(s["items"], one, fmt.Sprintf("%s[%d]", where, i)); err != nil {
				return err
			}
		}
	case string:
		if s["type"] != "string" {
			return fmt.Errorf("%s: %q is a string, not %v", where, v, s["type"])
		}
		if _, err := time.Parse(time.RFC3339Nano, v); s["format"] == "date-time" && err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	case float64:
		if s["type"] != "number" && (s["type"] != "integer" || v != float64(int64(v))) {
			return fmt.Errorf("%s: %v is not %v", where, v, s["type"])
		}
	case bool:
		if s["type"] != "boolean" {
			return fmt.Errorf("%s: is a boolean, not %v", where, s["type"])
		}
	default:
		return fmt.Errorf("%s: is %v", where, v)
	}
	return nil
}

func (d *document) holdsObject(s, v map[string]any, where string) error {
	if s["type"] != "object" {
		return fmt.Errorf("%s: is an object, not %v", where, s["type"])
	}
	required, _ := s["required"].([]any)
	for _, name := range required {
		if _, there := v[name.(string)]; !there {
			return fmt.Errorf("%s: has no %v", where, name)
		}
	}
	named, _ := s["properties"].(map[string]any)
	for name, one := range v {
		schema := named[name]
		if schema == nil {
			schema = s["additionalProperties"]
		}
		if schema == nil {
			return fmt.Errorf("%s: %s is not in docs/openapi.yaml", where, name)
		}
		if err := d.holds(schema, one, where+"."+name); err != nil {
			return err
		}
	}
	return nil
}

// subtree is what may stand behind a path, as http.ServeMux has it.
var subtree = map[bool]string{false: "$", true: ".*$"}

var pathParameter = regexp.MustCompile(`\\\{[a-z]+\\\}`)

// operation finds what a request is for; the path with the fewest parameters counts.
func (d *document) operation(r *http.Request) (string, map[string]any) {
	found, fewest := "", 99
	for path, ops := range d.paths {
		form := regexp.MustCompile("^" + pathParameter.ReplaceAllString(regexp.QuoteMeta(path), "[^/]+") + subtree[strings.HasSuffix(path, "/")])
		if n := strings.Count(path, "{"); n < fewest && ops[strings.ToLower(r.Method)] != nil && form.MatchString(r.URL.EscapedPath()) {
			found, fewest = path, n
		}
	}
	if found == "" {
		return "", nil
	}
	return strings.ToUpper(r.Method) + " " + found, d.paths[found][strings.ToLower(r.Method)].(map[string]any)
}

// answered are the operations that some test has had a 2xx answer of.
var answered sync.Map

// documented is a handler that holds all of a handler's answers to docs/openapi.yaml.
func documented(t testing.TB, h http.Handler) http.Handler {
	d := openAPI(t)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, op := d.operation(r)
		record := &recorded{ResponseWriter: w, code: http.StatusOK}
		h.ServeHTTP(record, r)
		if op == nil || record.code/100 != 2 && !strings.HasPrefix(r.URL.Path, "/api/") {
			if record.code/100 == 2 {
				t.Errorf("%s %s is answered with %d and is not in docs/openapi.yaml", r.Method, r.URL.Path, record.code)
			}
			return
		}
		if record.code/100 == 2 {
			answered.Store(name, true)
		}
		if err := d.holdsAnswer(op, record); err != nil {
			t.Errorf("%s: %d %.300s: %v", name, record.code, record.body.Bytes(), err)
		}
	})
}

// recorded keeps what is answered.
type recorded struct {
	http.ResponseWriter
	code int
	body bytes.Buffer
}

func (r *recorded) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorded) WriteHeader(code int) {
	r.code = code
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorded) Write(b []byte) (int, error) {
	r.body.Write(b)
	return r.ResponseWriter.Write(b)
}

func (d *document) holdsAnswer(op map[string]any, r *recorded) error {
	answer := d.resolved(at(op, "responses", fmt.Sprint(r.code)))
	if answer == nil && r.code/100 != 2 {
		answer = d.resolved(at(op, "responses", "default"))
	}
	if answer == nil {
		return fmt.Errorf("that status is not in docs/openapi.yaml")
	}
	content, _ := answer["content"].(map[string]any)
	kind, _, _ := strings.Cut(r.Header().Get("Content-Type"), ";")
	if len(content) == 0 {
		if r.body.Len() > 0 {
			return fmt.Errorf("has a body")
		}
		return nil
	}
	schema := at(content, kind, "schema")
	switch kind {
	case "application/json":
		return d.holdsJSON(schema, r.body.Bytes())
	case "application/x-ndjson":
		return d.eachLine(r.body.Bytes(), func(line string) error { return d.holdsJSON(schema, []byte(line)) })
	case "text/event-stream":
		name := ""
		return d.eachLine(r.body.Bytes(), func(line string) error {
			if n, ok := strings.CutPrefix(line, "event: "); ok {
				name = n
			}
			data, ok := strings.CutPrefix(line, "data: ")
			if !ok {
				return nil
			}
			return d.holdsJSON(at(answer, "x-events", name), []byte(data))
		})
	}
	if at(content, "*/*") == nil && schema == nil {
		return fmt.Errorf("Content-Type is %q, want one of %v", kind, slices.Collect(maps.Keys(content)))
	}
	return nil
}

func (d *document) eachLine(body []byte, check func(string) error) error {
	lines := bufio.NewScanner(bytes.NewReader(body))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if lines.Text() == "" {
			continue
		}
		if err := check(lines.Text()); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (d *document) holdsJSON(schema any, body []byte) error {
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return err
	}
	return d.holds(schema, v, "answer")
}

// TestOpenAPIRoutes wants every route in docs/openapi.yaml and nothing else there, with what the control socket alone serves marked.
func TestOpenAPIRoutes(t *testing.T) {
	d := openAPI(t)
	s := NewServer(Options{Metrics: NewMetrics(&entries{})})
	api := NewUserAPI(UserOptions{Server: s})
	served := map[string]bool{}
	for _, pattern := range append(slices.Clone(s.routes), api.routes...) {
		if pattern != "/" {
			served[pattern] = true
		}
	}
	for path, ops := range d.paths {
		for method, op := range ops {
			pattern := strings.ToUpper(method) + " " + path
			if !served[pattern] {
				t.Errorf("%s is in docs/openapi.yaml and nobody serves it", pattern)
			}
			delete(served, pattern)
			r := httptest.NewRequest(strings.ToUpper(method), pathParameter.ReplaceAllString(regexp.QuoteMeta(path), "x"), nil)
			r.URL.Path = strings.ReplaceAll(r.URL.Path, `\`, "")
			_, remote := s.remote.Handler(r)
			_, user := api.mux.Handler(r)
			elsewhere := remote != "" && remote != "/" || user != "/" // served by the HTTPS port
			if marked := at(op, "x-socket-only") == true; marked == elsewhere {
				t.Errorf("%s: served elsewhere than on the control socket: %v, marked %v (%s, %s)", pattern, elsewhere, marked, remote, user)
			}
		}
	}
	for pattern := range served {
		t.Errorf("%s is not in docs/openapi.yaml", pattern)
	}
}

// TestOpenAPIRefuses shows that the check of answers can fail.
func TestOpenAPIRefuses(t *testing.T) {
	d := openAPI(t)
	past := map[string]any{"$ref": "#/components/schemas/Past"}
	good := `{"time":"2026-01-01T00:00:00Z","kind":"in","peer":"102","name":"Bob","duration":1.5,"call":"k3f9"}`
	if err := d.holdsJSON(past, []byte(good)); err != nil {
		t.Error(err)
	}
	for _, change := range [][2]string{
		{`"kind":"in"`, `"kind":"sideways"`},
		{`"peer":"102",`, ``},
		{`"call"`, `"more":1,"call"`},
		{`"102"`, `102`},
		{`"102"`, `null`},
		{`2026-01-01T`, ``},
		{`1.5`, `"1.5"`},
		{`{"time`, `[{"time`},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if change[1] == `[{"time` {
			bad += "]"
		}
		if err := d.holdsJSON(past, []byte(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// TestMain also wants each operation to have been answered by some test, when all of them run.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 && wholeRun() {
		code = unanswered()
	}
	os.Exit(code)
}

func wholeRun() bool {
	for _, a := range os.Args {
		if strings.HasPrefix(a, "-test.run=") || strings.HasPrefix(a, "-test.fuzz") || strings.HasPrefix(a, "-test.skip") || strings.HasPrefix(a, "-test.list") {
			return false
		}
	}
	return true
}

func unanswered() int {
	d, err := readDocument()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	code := 0
	for path, ops := range d.paths {
		for method := range ops {
			name := strings.ToUpper(method) + " " + path
			if _, ok := answered.Load(name); !ok && !never[name] {
				fmt.Println("no test has had an answer of", name)
				code = 1
			}
		}
	}
	return code
}

// never are the operations that cannot be done, or whose answer takes too long for a test.
var never = map[string]bool{
	"POST /api/v1/me/calls/{call}/leave": true, "POST /api/v1/me/calls/{call}/rejoin": true, // 501
	"GET /debug/pprof/profile": true, "GET /debug/pprof/trace": true,
}
