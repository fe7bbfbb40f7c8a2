package handoff

// Message is what one process tells the other. Body, which may be long, is passed in a memory file.
type Message struct {
	Kind        string   `json:"kind"`
	Name        string   `json:"name,omitempty"`
	Names       []string `json:"names,omitempty"`
	Body        []byte   `json:"-"`
	Descriptors []int    `json:"-"`
}
