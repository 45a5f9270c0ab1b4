package web

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// pageFile is one file of the page, whole.
type pageFile struct {
	data  []byte
	kind  string // Content-Type
	tag   string // ETag
	cache string // Cache-Control
}

// page serves the built page from memory.
type page struct{ files map[string]pageFile }

// index is the file that every address of the page shows.
const index = "index.html"

// pageTypes are those that Go does not know by itself, whatever the machine's own list says.
var pageTypes = map[string]string{
	".webmanifest": "application/manifest+json", ".woff2": "font/woff2", ".woff": "font/woff", ".ico": "image/x-icon",
	".ogg": "audio/ogg", ".oga": "audio/ogg", ".mp3": "audio/mpeg", ".wav": "audio/wav", ".txt": "text/plain; charset=utf-8",
}

// newPage reads the page. One that was not built has no index.html.
func newPage(files fs.FS) *page {
	p := &page{files: map[string]pageFile{}}
	_ = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // what cannot be read is not there
		}
		if data, err := fs.ReadFile(files, name); err == nil {
			p.files[name] = newPageFile(name, data)
		}
		return nil
	})
	return p
}

func newPageFile(name string, data []byte) pageFile {
	sum := sha256.Sum256(data)
	f := pageFile{data: data, kind: pageTypes[path.Ext(name)], tag: strconv.Quote(hex.EncodeToString(sum[:12])), cache: "no-cache"}
	if f.kind == "" {
		f.kind = mime.TypeByExtension(path.Ext(name))
	}
	if f.kind == "" {
		f.kind = "application/octet-stream"
	}
	switch {
	case name == index:
		f.cache = "no-store"
	case strings.HasPrefix(name, "assets/"): // their names hold a hash of what is in them
		f.cache = "public, max-age=31536000, immutable"
	}
	return f
}

// ServeHTTP answers GET and HEAD. An address that is no file belongs to the page itself.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		answerText(w, http.StatusMethodNotAllowed, "there is nothing here to be changed")
		return
	}
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	f, found := p.files[name]
	if !found && path.Ext(name) == "" && !strings.HasPrefix(name, "assets/") {
		if f, found = p.files[index]; !found {
			answerText(w, http.StatusServiceUnavailable, "the page was not built into this program: run make build")
			return
		}
	}
	if !found {
		answerText(w, http.StatusNotFound, "there is no such file")
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", f.cache)
	h.Set("ETag", f.tag)
	if r.Header.Get("If-None-Match") == f.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(f.data)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(f.data) // the peer may have gone
	}
}
