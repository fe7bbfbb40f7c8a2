package metadata_test

import (
	"fmt"
	"strings"

	"github.com/mailturn/mailturn/imapext/metadata"
)

// Answer GETMETADATA on the server's side, and read the answer on the client's.
func Example() {
	get, err := metadata.ParseGet([]byte(` (MAXSIZE 1024) "" (/shared/comment /shared/admin)` + "\r\n"))
	if err != nil {
		fmt.Println("BAD", err)
		return
	}
	var entries []metadata.Entry
	for _, name := range get.Names {
		entry := metadata.Entry{Name: name} // NIL
		if name == "/shared/comment" {
			entry.Value = metadata.String("the mail server of example.org")
		}
		entries = append(entries, entry)
	}
	response := metadata.AppendResponse(nil, get.Mailbox, entries)
	fmt.Print(strings.ReplaceAll(string(response), "\r", ""))

	_, read, err := metadata.ParseResponse(response)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, entry := range read {
		fmt.Printf("%s: %q, NIL %v\n", entry.Name, entry.Value.Octets(), entry.Value.IsNIL())
	}
	// Output:
	// * METADATA "" (/shared/comment "the mail server of example.org" /shared/admin NIL)
	// /shared/comment: "the mail server of example.org", NIL false
	// /shared/admin: "", NIL true
}
