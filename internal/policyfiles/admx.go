package policyfiles

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"encounterlauncher/internal/policy"
)

const (
	null = "null"
	// admxNamespace is the name by which other templates could refer to ours. It
	// stays, or an upgrade of the templates would meet itself as a stranger.
	admxNamespace = "EncounterLauncher.Policies.EncounterLauncher"
	// revision of the templates: the editor refuses an ADML that is older than its
	// ADMX asks for. It grows when a string that the ADMX needs is added.
	revision = "1.0"
	// root is the category of the product, above those of the topics.
	root = "EncounterLauncher"
	// longestText is what policy accepts of a text, in bytes.
	longestText = 2048
	// longestObject is what the editor's box and a line of a policy file can hold
	// with ease; the registry itself may hold 256 KiB.
	longestObject = 16384
	// mostItems is what policy accepts of a list.
	mostItems = 64
)

var xmlText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

func itoa(n int) string { return strconv.Itoa(n) }

// supported is the name of the definition “supported since that version”.
func supported(since string) string { return "SUPPORTED_" + strings.ReplaceAll(since, ".", "_") }

// versions are the versions that first knew a key, oldest row first.
func versions(keys []policy.Key) []string {
	var all []string
	for _, k := range keys {
		if !slices.Contains(all, k.Since) {
			all = append(all, k.Since)
		}
	}
	return all
}

// inOrder are the keys as the topics name them.
func inOrder(keys []policy.Key) []policy.Key {
	var ordered []policy.Key
	for _, t := range topics() {
		for _, name := range t.keys {
			if k := keyNamed(keys, name); k != nil {
				ordered = append(ordered, *k)
			}
		}
	}
	return ordered
}

// admx is the template that knows what is written where ([MS-GPREG] and the ADMX
// schema, version 1.0). It refers to no other template, because the ingestion of
// device management takes one file alone.
func admx(keys []policy.Key) []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p(`<?xml version="1.0" encoding="utf-8"?>`)
	p(`<!-- Generated from internal/policy/keys.go by go generate. Do not edit. -->`)
	p(`<policyDefinitions xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" revision="%s" schemaVersion="1.0" xmlns="http://schemas.microsoft.com/GroupPolicy/2006/07/PolicyDefinitions">`, revision)
	p(`  <policyNamespaces>`)
	p(`    <target prefix="encounterlauncher" namespace="%s" />`, admxNamespace)
	p(`  </policyNamespaces>`)
	p(`  <resources minRequiredRevision="%s" />`, revision)
	p(`  <supportedOn>`)
	p(`    <definitions>`)
	for _, v := range versions(keys) {
		p(`      <definition name="%s" displayName="$(string.%s)" />`, supported(v), supported(v))
	}
	p(`    </definitions>`)
	p(`  </supportedOn>`)
	p(`  <categories>`)
	p(`    <category name="%s" displayName="$(string.Category_%s)" explainText="$(string.Category_%s_Explain)" />`, root, root, root)
	for _, t := range topics() {
		p(`    <category name="%s" displayName="$(string.Category_%s)">`, t.id, t.id)
		p(`      <parentCategory ref="%s" />`, root)
		p(`    </category>`)
	}
	p(`  </categories>`)
	p(`  <policies>`)
	for _, k := range inOrder(keys) {
		class := "Both"
		if k.Scope == policy.Machine {
			class = "Machine"
		}
		value, presentation := "", fmt.Sprintf(` presentation="$(presentation.%s)"`, k.Name)
		if k.Type == policy.YesNo {
			value, presentation = fmt.Sprintf(` valueName="%s"`, k.Name), ""
		}
		p(`    <policy name="%[1]s" class="%[2]s" displayName="$(string.%[1]s)" explainText="$(string.%[1]s_Explain)"%[3]s key="%[4]s"%[5]s>`, k.Name, class, presentation, policy.PoliciesKey, value)
		p(`      <parentCategory ref="%s" />`, topicOf(k.Name))
		p(`      <supportedOn ref="%s" />`, supported(k.Since))
		if k.Type == policy.YesNo {
			p(`      <enabledValue>`)
			p(`        <decimal value="1" />`)
			p(`      </enabledValue>`)
			p(`      <disabledValue>`)
			p(`        <decimal value="0" />`)
			p(`      </disabledValue>`)
			p(`    </policy>`)
			continue
		}
		p(`      <elements>`)
		switch k.Type {
		case policy.Choice:
			p(`        <enum id="%[1]s" valueName="%[1]s" required="true">`, k.Name)
			for _, v := range k.Allowed {
				p(`          <item displayName="$(string.%s_%s)">`, k.Name, v)
				p(`            <value>`)
				p(`              <string>%s</string>`, xmlText.Replace(v))
				p(`            </value>`)
				p(`          </item>`)
			}
			p(`        </enum>`)
		case policy.Number:
			p(`        <decimal id="%[1]s" valueName="%[1]s" required="true" minValue="%[2]d" maxValue="%[3]d" />`, k.Name, k.Min, k.Max)
		case policy.List:
			p(`        <multiText id="%[1]s" valueName="%[1]s" required="true" maxLength="%[2]d" maxStrings="%[3]d" />`, k.Name, longestText, mostItems)
		case policy.Object:
			p(`        <text id="%[1]s" valueName="%[1]s" required="true" maxLength="%[2]d" />`, k.Name, longestObject)
		default:
			p(`        <text id="%[1]s" valueName="%[1]s" required="true" maxLength="%[2]d" />`, k.Name, longestText)
		}
		p(`      </elements>`)
		p(`    </policy>`)
	}
	p(`  </policies>`)
	p(`</policyDefinitions>`)
	return b.Bytes()
}

// adml is what the template says in one language.
func adml(keys []policy.Key, w words) []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	text := func(id, text string) { p(`      <string id="%s">%s</string>`, id, xmlText.Replace(text)) }
	p(`<?xml version="1.0" encoding="utf-8"?>`)
	p(`<!-- Generated by go generate; the words are in internal/policyfiles/words. Do not edit. -->`)
	p(`<policyDefinitionResources xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" revision="%s" schemaVersion="1.0" xmlns="http://schemas.microsoft.com/GroupPolicy/2006/07/PolicyDefinitions">`, revision)
	p(`  <displayName>%s</displayName>`, xmlText.Replace(w.say("product")))
	p(`  <description>%s</description>`, xmlText.Replace(w.say("about")))
	p(`  <resources>`)
	p(`    <stringTable>`)
	for _, v := range versions(keys) {
		text(supported(v), w.say("supported", "version", v))
	}
	text("Category_"+root, w.say("product"))
	text("Category_"+root+"_Explain", w.say("about"))
	for _, t := range topics() {
		text("Category_"+t.id, w.Topics[t.id])
	}
	for _, k := range inOrder(keys) {
		text(k.Name, w.Keys[k.Name].Name)
		text(k.Name+"_Explain", w.explain(k))
		if k.Type == policy.Choice {
			for _, v := range k.Allowed {
				text(k.Name+"_"+v, w.Keys[k.Name].Choices[v])
			}
		}
	}
	p(`    </stringTable>`)
	p(`    <presentationTable>`)
	for _, k := range inOrder(keys) {
		label := xmlText.Replace(w.Keys[k.Name].Name)
		if k.Type == policy.YesNo {
			continue
		}
		p(`      <presentation id="%s">`, k.Name)
		switch k.Type {
		case policy.Choice:
			chosen := ""
			if i := slices.Index(k.Allowed, strings.Join(k.RegistryData(k.Default), "")); i >= 0 {
				chosen = fmt.Sprintf(` defaultItem="%d"`, i)
			}
			p(`        <dropdownList refId="%s" noSort="true"%s>%s</dropdownList>`, k.Name, chosen, label)
		case policy.Number:
			p(`        <decimalTextBox refId="%s" defaultValue="%s">%s</decimalTextBox>`, k.Name, k.Default, label)
		case policy.List:
			p(`        <text>%s</text>`, label)
			p(`        <multiTextBox refId="%s" defaultHeight="6" />`, k.Name)
		default:
			p(`        <textBox refId="%s">`, k.Name)
			p(`          <label>%s</label>`, label)
			p(`        </textBox>`)
		}
		p(`      </presentation>`)
	}
	p(`    </presentationTable>`)
	p(`  </resources>`)
	p(`</policyDefinitionResources>`)
	return b.Bytes()
}
