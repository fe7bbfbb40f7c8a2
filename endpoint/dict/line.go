package dict

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// A lineReader reads lines of a bounded length.
type lineReader struct {
	buffered *bufio.Reader
	limit    int
}

// newLineReader returns a reader of lines of at most limit bytes without the LF.
func newLineReader(r io.Reader, limit int) *lineReader {
	return &lineReader{bufio.NewReader(r), limit}
}

// next returns a line without its LF. Bytes before the end without an LF are not a line: the error is io.EOF.
func (l *lineReader) next() (string, error) {
	var long []byte
	for {
		part, err := l.buffered.ReadSlice('\n')
		if len(long)+len(part) > l.limit+1 || errors.Is(err, bufio.ErrBufferFull) && len(long)+len(part) > l.limit {
			return "", fmt.Errorf("a line has more than %d bytes", l.limit)
		}
		switch {
		case err == nil && long == nil:
			return string(part[:len(part)-1]), nil
		case err == nil:
			long = append(long, part...)
			return string(long[:len(long)-1]), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		}
		long = append(long, part...)
	}
}
