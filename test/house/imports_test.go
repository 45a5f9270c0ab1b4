package house

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the name in go.mod.
const module = "baton"

// below lists, for each package, those of this module that it may import: downward only, and sip and media never
// meet. cluster, config, journal, load and serial import nothing of ours.
var below = map[string][]string{
	"cmd/baton":       {"web", "store", "cluster", "cluster/edge", "doctor", "call", "registrar", "sip", "media", "journal", "load", "config"},
	"web":             {"call", "registrar", "sip", "media", "journal", "load", "config"},
	"store":           {"call", "registrar", "sip", "media", "journal", "cluster", "config"},
	"store/storetest": {"call", "registrar", "sip", "media", "journal", "config"}, // the contract test that every store passes
	"call":            {"registrar", "sip", "media", "journal", "serial", "config"},
	"registrar":       {"sip", "journal", "serial", "config"},
	"sip":             {"serial", "config"},
	"media":           {"media/fastpath", "config"},
	"media/fastpath":  {},
	"doctor":          {"config"}, // imported by cmd alone
	"cluster":         {},
	"cluster/edge":    {"cluster", "sip"},
	"config":          {},
	"journal":         {},
	"load":            {},
	"serial":          {},
}

// only lists the outside modules that belong to one package.
var only = map[string]string{
	"github.com/emiago/sipgo":  "sip",
	"github.com/miekg/dns":     "sip",
	"github.com/prometheus/":   "web",
	"github.com/coder/":        "web",
	"github.com/pion/":         "media",
	"github.com/cilium/ebpf":   "media/fastpath",
	"go.etcd.io/bbolt":         "store",
	"github.com/redis/":        "store",
	"github.com/spf13/cobra":   "cmd",
	"github.com/spf13/pflag":   "cmd",
	"github.com/goccy/go-yaml": "config",
	"golang.org/x/crypto/acme": "web",
}

// sipgoPart is the only package of sipgo that may be used.
const sipgoPart = "github.com/emiago/sipgo/sip"

// wrong says what is wrong with pkg importing imported, or "".
func wrong(pkg, imported string) string {
	if inner, ok := strings.CutPrefix(imported, module+"/"); ok {
		return wrongInner(pkg, inner)
	}
	for prefix, owner := range only {
		if strings.HasPrefix(imported, prefix) && pkg != owner && !strings.HasPrefix(pkg, owner+"/") {
			return "only " + owner + " may import " + imported
		}
	}
	if strings.HasPrefix(imported, "github.com/emiago/sipgo") && imported != sipgoPart {
		return "of sipgo only its sip package is used"
	}
	return ""
}

// wrongInner judges an edge within the module.
func wrongInner(pkg, inner string) string {
	if inner == "test" || strings.HasPrefix(inner, "test/") {
		return "no product package may import " + inner
	}
	allowed, known := below[pkg]
	if !known {
		return "package " + pkg + " has no place in the order; give it one here"
	}
	if !slices.Contains(allowed, inner) {
		return pkg + " may not import " + inner
	}
	return ""
}

// TestImports reads the imports of all product files and holds them to the order.
func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for file, imports := range productImports(t, "../..") {
		pkg := path.Dir(file)
		seen[pkg] = true
		if _, known := below[pkg]; !known {
			t.Errorf("%s: package %s has no place in the order", file, pkg)
		}
		for _, imported := range imports {
			if complaint := wrong(pkg, imported); complaint != "" {
				t.Errorf("%s: %s", file, complaint)
			}
		}
	}
	for pkg := range below {
		if !seen[pkg] {
			t.Errorf("package %s is in the order but has no file", pkg)
		}
	}
}

// productImports maps each non-test Go file outside test/ to what it imports, whatever its build tags.
func productImports(t *testing.T, root string) map[string][]string {
	t.Helper()
	files := map[string][]string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(strings.TrimPrefix(name, root), "/"))
		switch {
		case d.IsDir() && (rel == "test" || rel == "data" || rel == "bin" || strings.HasPrefix(d.Name(), ".") && rel != ""):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go"):
			return nil
		}
		files[rel] = importsOf(t, name)
		return nil
	})
	if err != nil {
		t.Fatalf("read the tree: %v", err)
	}
	return files
}

// importsOf parses one file as far as its imports.
func importsOf(t *testing.T, name string) []string {
	t.Helper()
	src, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("read source: %v", err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
	if err != nil {
		t.Fatalf("parse source: %v", err)
	}
	var imports []string
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatalf("%s: import %s: %v", name, spec.Path.Value, err)
		}
		imports = append(imports, imported)
	}
	return imports
}

// TestWrongEdges shows that the order can be broken, and by what.
func TestWrongEdges(t *testing.T) {
	tests := []struct {
		pkg, imported string
		bad           bool
	}{
		{"sip", "baton/config", false},
		{"sip", "baton/media", true},
		{"media", "baton/sip", true},
		{"sip", "baton/registrar", true},
		{"registrar", "baton/sip", false},
		{"registrar", "baton/media", true},
		{"registrar", "baton/call", true},
		{"call", "baton/registrar", false},
		{"call", "baton/store", true},
		{"call", "baton/web", true},
		{"store", "baton/call", false},
		{"store", "baton/web", true},
		{"web", "baton/store", true},
		{"web", "baton/doctor", true},
		{"cmd/baton", "baton/doctor", false},
		{"doctor", "baton/sip", true},
		{"web", "baton/call", false},
		{"config", "baton/journal", true},
		{"journal", "baton/config", true},
		{"cmd/baton", "baton/web", false},
		{"cmd/baton", "baton/test/phone", true},
		{"call", "baton/test/phone", true},
		{"cluster", "baton/call", true},
		{"sip", "github.com/emiago/sipgo/sip", false},
		{"sip", "github.com/emiago/sipgo", true},
		{"call", "github.com/emiago/sipgo/sip", true},
		{"media", "github.com/pion/rtp", false},
		{"call", "github.com/pion/sdp/v3", true},
		{"media", "github.com/cilium/ebpf", true},
		{"media/fastpath", "github.com/cilium/ebpf/link", false},
		{"media/fastpath", "baton/media", true},
		{"call", "baton/media/fastpath", true},
		{"store", "go.etcd.io/bbolt", false},
		{"registrar", "go.etcd.io/bbolt", true},
		{"web", "github.com/redis/go-redis/v9", true},
		{"cmd/baton", "github.com/spf13/cobra", false},
		{"web", "github.com/spf13/cobra", true},
		{"web", "net/http", false},
		{"web", "github.com/coder/websocket", false},
		{"sip", "github.com/coder/websocket", true},
		{"web", "golang.org/x/crypto/acme/autocert", false},
		{"cmd/baton", "golang.org/x/crypto/acme/autocert", true},
	}
	for _, tt := range tests {
		if complaint := wrong(tt.pkg, tt.imported); (complaint != "") != tt.bad {
			t.Errorf("%s imports %s: complaint %q, want one: %v", tt.pkg, tt.imported, complaint, tt.bad)
		}
	}
}
