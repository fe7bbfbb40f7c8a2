package coturn

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// Write writes our configuration in HCL, with the remarks as comments. It contains the secrets and passwords of the imported file.
func (i *Import) Write(w io.Writer) error {
	file := hclwrite.NewEmptyFile()
	i.addTo(file)
	_, err := io.WriteString(w, string(file.Bytes())+i.Comments())
	return err
}

// AddTo returns the given configuration with what it lacks: the endpoint "turn", or attributes and blocks of the first one, the
// log, and an endpoint for metrics if it has no endpoint "http". What it has is not changed; kept names what differs from coturn
// there. The diagnostics are about a configuration that cannot be parsed.
func (i *Import) AddTo(configuration []byte, name string) (text []byte, kept []string, diags hcl.Diagnostics) {
	whole := append(bytes.TrimRight(configuration, "\n"), '\n') // otherwise the additions would begin on its last line
	file, diags := hclwrite.ParseConfig(whole, name, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, nil, diags
	}
	kept = i.addTo(file)
	return file.Bytes(), kept, nil
}

func (i *Import) addTo(file *hclwrite.File) (kept []string) {
	a := adder{body: file.Body()}
	if i.verbose {
		log := a.block("log")
		log.set("level", cty.StringVal("debug"))
		kept = append(kept, log.kept...)
	}
	endpoint := a.block("endpoint", "turn", "turn")
	i.endpoint(&endpoint)
	kept = append(kept, endpoint.kept...)
	if i.metrics != "" && a.find("endpoint", "http") != nil {
		kept = append(kept, `endpoint "http"`)
	} else if i.metrics != "" {
		metrics := a.block("endpoint", "http", "metrics")
		metrics.set("listen", cty.StringVal(i.metrics))
	}
	return kept
}

// An adder adds what a body lacks.
type adder struct {
	body *hclwrite.Body
	name string   // of the block and those around it, for messages
	kept []string // what was present with another value
}

// find returns the first block of a type (for an endpoint, also of a kind), or nil if there is none.
func (a *adder) find(blockType string, labels ...string) *hclwrite.Block {
	for _, block := range a.body.Blocks() {
		if block.Type() == blockType && (len(labels) == 0 || len(block.Labels()) > 0 && block.Labels()[0] == labels[0]) {
			return block
		}
	}
	return nil
}

// block returns the block of a type, and appends it if there is none.
func (a *adder) block(blockType string, labels ...string) adder {
	block := a.find(blockType, labels...)
	if block == nil {
		if len(a.body.Attributes())+len(a.body.Blocks()) > 0 {
			a.body.AppendNewline()
		}
		block = a.body.AppendNewBlock(blockType, labels)
	} else if len(block.Body().BuildTokens(nil)) == 0 {
		block.Body().AppendNewline() // a block {} is on one line
	}
	return adder{body: block.Body(), name: strings.TrimPrefix(a.name+" "+blockType, " ")}
}

// set sets an attribute, unless it has a value.
func (a *adder) set(name string, value cty.Value) {
	if a.body.GetAttribute(name) != nil {
		a.compare(name, value)
		return
	}
	a.body.SetAttributeValue(name, value)
}

// setPair sets two attributes that belong together, unless one already has a value. The zero Value means none.
func (a *adder) setPair(first string, firstValue cty.Value, second string, secondValue cty.Value) {
	present := a.body.GetAttribute(first) != nil || a.body.GetAttribute(second) != nil
	for _, pair := range []struct {
		name  string
		value cty.Value
	}{{first, firstValue}, {second, secondValue}} {
		switch {
		case pair.value == cty.NilVal:
		case present:
			a.compare(pair.name, pair.value)
		default:
			a.set(pair.name, pair.value)
		}
	}
}

// compare records an attribute that differs from coturn.
func (a *adder) compare(name string, value cty.Value) {
	text := ""
	if attribute := a.body.GetAttribute(name); attribute != nil {
		text = trimmed(attribute.Expr().BuildTokens(nil))
	}
	if text != trimmed(hclwrite.TokensForValue(value)) {
		a.kept = append(a.kept, strings.TrimPrefix(a.name+" ", "endpoint ")+name)
	}
}

func trimmed(tokens hclwrite.Tokens) string { return string(bytes.TrimSpace(tokens.Bytes())) }

// Comments returns the remarks as comments for a configuration.
func (i *Import) Comments() string {
	var b strings.Builder
	for _, group := range []struct {
		kind  Kind
		title string
	}{
		{Wrong, "Not translated: set it here, or fix it there and import again"},
		{Missing, "What coturn did and mailturn does not do"},
		{Doubtful, "Worth checking"},
		{Needless, "No line needed here"},
	} {
		title := group.title
		for _, r := range i.Remarks {
			if r.Kind != group.kind {
				continue
			}
			if title != "" {
				fmt.Fprintf(&b, "\n# %s:\n", title)
				title = ""
			}
			fmt.Fprintf(&b, "#   %s: %s\n", r.Place(), r.Reason)
		}
	}
	return b.String()
}

// Place describes what the remark is about without values: by the lines, and by the name if it is a valid one. Other text may be
// part of a secret.
func (r Remark) Place() string {
	place, name := fmt.Sprintf("line %d", r.Directive.Line), r.Directive.Name
	if r.Directive.Line == 0 { // the file lacks it
		return name
	}
	if r.LastLine > r.Directive.Line {
		place = fmt.Sprintf("lines %d-%d", r.Directive.Line, r.LastLine)
	}
	if name == "" || len(name) > 60 || strings.Trim(name, nameCharacters) != "" {
		return place
	}
	return place + ", " + name
}

const nameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

// endpoint adds what belongs in the endpoint "turn".
func (i *Import) endpoint(a *adder) {
	number := func(name string, d Directive, factor int64) {
		if d.Name != "" {
			n, _ := strconv.ParseInt(d.Value, 10, 64) // it was checked when it was translated
			a.set(name, cty.NumberIntVal(n*factor))
		}
	}
	a.set("listen", texts(i.listen))
	if i.realm.Value != "" {
		a.set("realm", cty.StringVal(i.realm.Value))
	}
	if len(i.secretTexts) > 0 {
		a.set("secret", texts(i.secretTexts))
	}
	if len(i.passwords) > 0 {
		users := make(map[string]cty.Value)
		for _, name := range i.userNames {
			users[name] = cty.StringVal(i.passwords[name])
		}
		a.set("users", cty.ObjectVal(users))
	}
	if len(i.relayIP) > 0 {
		bind := cty.NilVal
		if len(i.relayBind) > 0 {
			bind = texts(strs(i.relayBind))
		}
		a.setPair("relay_ip", texts(strs(i.relayIP)), "relay_bind", bind)
	}
	a.set("relay_ports", cty.StringVal(i.minPort.Value+"-"+i.maxPort.Value))
	if i.family != "" {
		a.set("default_family", cty.StringVal(i.family))
	}
	number("user_quota", i.userQuota, 1)
	number("total_quota", i.totalQuota, 1)
	number("max_bps", i.maxBPS, 8)
	number("total_bps", i.capacity, 8)
	number("nonce_lifetime", i.nonceLifetime, 1)
	number("max_lifetime", i.maxLifetime, 1)
	if i.encrypted() {
		tls := a.block("tls")
		tls.setPair("cert", cty.StringVal(i.file(i.cert)), "key", cty.StringVal(i.file(i.key)))
		a.kept = append(a.kept, tls.kept...)
	}
	if len(i.allow)+len(i.deny) > 0 {
		peers := a.block("peers")
		for _, list := range []struct {
			name     string
			prefixes []netip.Prefix
		}{{"allow", i.allow}, {"deny", i.deny}} {
			if len(list.prefixes) > 0 {
				peers.set(list.name, texts(strs(list.prefixes)))
			}
		}
		a.kept = append(a.kept, peers.kept...)
	}
}

// texts returns a list of strings, or a string if there is only one.
func texts(list []string) cty.Value {
	var values []cty.Value
	for _, s := range list {
		values = append(values, cty.StringVal(s))
	}
	switch len(values) {
	case 0:
		return cty.EmptyTupleVal
	case 1:
		return values[0]
	}
	return cty.TupleVal(values)
}

func strs[T fmt.Stringer](values []T) (list []string) {
	for _, v := range values {
		list = append(list, v.String())
	}
	return list
}
