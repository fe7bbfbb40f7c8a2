package rotation

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mailturn/mailturn/framework/atomicfile"
	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/framework/cluster"
)

// maxFile is the size of the file in bytes.
const maxFile = 256 << 10

// fileContext binds the content of the file to its purpose.
const fileContext = "secrets"

// stored is the content of the file, in JSON. It is sealed and encoded in base64.
type stored struct {
	Version int          `json:"version"`
	Held    []storedItem `json:"held"`
	Gone    []withdrawn  `json:"gone,omitempty"`
}

// storedItem is the entry of a secret.
type storedItem struct {
	Name  string    `json:"name"`
	Stamp int64     `json:"stamp"`
	Until time.Time `json:"until"`
	Value string    `json:"value"`
	Used  bool      `json:"used,omitempty"` // this machine may have issued with it
}

// Load reads the file again, which another process may have written. If it cannot be read, the log says so, and the secrets come from
// Redis.
func (k *Keeper) Load() {
	if k == nil || k.config.Path == "" {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	text, _, err := bounded.ReadFile(k.config.Path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var held []Secret
	var gone []withdrawn
	if err == nil {
		held, gone, err = k.parseFile(string(text))
	}
	if err != nil {
		k.config.Logger.Error("cluster: stored secrets cannot be read; this machine has to learn them from Redis", "file", k.config.Path, "err", err)
		return
	}
	k.held, k.gone = held, gone
	k.expire(time.Now())
	k.fill()
}

func (k *Keeper) parseFile(text string) (held []Secret, gone []withdrawn, err error) {
	sealed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, nil, err
	}
	opened, err := k.config.Cluster.Open(string(sealed), fileContext)
	if err != nil {
		return nil, nil, err
	}
	var file stored
	if err := json.Unmarshal([]byte(opened), &file); err != nil {
		return nil, nil, err
	}
	if file.Version != 1 {
		return nil, nil, fmt.Errorf("it has version %d, want 1", file.Version)
	}
	for _, item := range file.Held {
		s, err := parse(cluster.Entry{Name: item.Name, Stamp: item.Stamp, Until: item.Until, Value: item.Value})
		if err != nil {
			return nil, nil, err
		}
		s.used = item.Used
		held = append(held, s)
	}
	slices.SortFunc(held, compare)
	return held, file.Gone, nil
}

// HandOver makes the Keeper store nothing any more, because another process has taken over.
func (k *Keeper) HandOver() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.retired = true
}

// store writes the file. The caller holds the lock.
func (k *Keeper) store() error {
	if k.config.Path == "" || k.retired {
		return nil
	}
	file := stored{Version: 1, Held: []storedItem{}, Gone: k.gone}
	for _, s := range k.held {
		e := s.entry()
		file.Held = append(file.Held, storedItem{e.Name, e.Stamp, e.Until, e.Value, s.used})
	}
	text, err := json.Marshal(file)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(k.config.Path), 0o700); err != nil {
		return err
	}
	sealed := base64.StdEncoding.EncodeToString([]byte(k.config.Cluster.Seal(string(text), fileContext)))
	return atomicfile.Replace(k.config.Path, []byte(sealed+"\n"), atomicfile.Private)
}
