package holders

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// segment is a file of the record, with one JSON object per line.
type segment struct {
	name  string
	began time.Time // when the first holding was written
	size  int64
}

const suffix = ".jsonl"

func segmentName(began time.Time) string { return strconv.FormatInt(began.UnixNano(), 10) + suffix }

// segments returns the files in a directory, the oldest first. Other files are ignored.
func segments(dir string) (all []segment) {
	entries, _ := os.ReadDir(dir) // it does not exist before the first holding
	for _, entry := range entries {
		number, ok := strings.CutSuffix(entry.Name(), suffix)
		began, err := strconv.ParseInt(number, 10, 64)
		if !ok || err != nil {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			continue // removed meanwhile
		}
		all = append(all, segment{entry.Name(), time.Unix(0, began), info.Size()})
	}
	slices.SortFunc(all, func(a, b segment) int { return a.began.Compare(b.began) })
	return all
}

func itoa(port uint16) string { return strconv.Itoa(int(port)) }
