package page

import (
	"embed"
	"net/http"
	"path"

	"github.com/mailturn/mailturn/endpoint/http/respond"
)

//go:embed assets
var assets embed.FS

// mediaTypes are those of the files, by extension. They do not depend on the machine's.
var mediaTypes = map[string]string{
	".css":  "text/css; charset=utf-8",
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	".txt":  "text/plain; charset=utf-8",
}

// writeAsset answers with a file of the folder assets.
func writeAsset(w http.ResponseWriter, status int, name string) {
	content, err := assets.ReadFile(path.Join("assets", path.Clean("/"+name)))
	mediaType := mediaTypes[path.Ext(name)]
	if err != nil || mediaType == "" {
		respond.Problem(w, http.StatusNotFound, "there is no such file")
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(status)
	w.Write(content)
}
