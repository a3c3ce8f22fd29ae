"use strict";
// Without this script the page shows everything: it only hides.
const cases = [...document.querySelectorAll(".case")];
const texts = cases.map((row) => row.textContent.toLowerCase());
const groups = [...document.querySelectorAll(".group")];
const links = [...document.querySelectorAll("[data-show]")];
const kinds = links.map((link) => link.dataset.show);
const search = document.getElementById("search");
let show = "all";

function filter() {
	const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
	let shown = 0;
	cases.forEach((row, i) => {
		const chosen = show === "all" || row.dataset.outcome === show || show === "remarks" && row.dataset.remark;
		row.hidden = !chosen || !words.every((word) => texts[i].includes(word));
		shown += row.hidden ? 0 : 1;
	});
	groups.forEach((group) => { group.hidden = !group.querySelector(".case:not([hidden])"); });
	links.forEach((link) => {
		if (link.dataset.show === show) link.setAttribute("aria-current", "true");
		else link.removeAttribute("aria-current");
	});
	document.getElementById("shown").textContent = `${shown} of ${cases.length} cases`;
	document.getElementById("none").hidden = shown > 0;
}

// The fragment says what to show, or leads to a case or a group, which must not
// be hidden then.
function follow() {
	const fragment = location.hash.slice(1);
	const [kind, text] = [...new URLSearchParams(fragment)][0] ?? ["", ""];
	if (kinds.includes(kind)) {
		show = kind;
		search.value = text;
	}
	filter();
	const place = document.getElementById(fragment);
	if (place && (place.hidden || place.closest("[hidden]"))) {
		show = "all";
		search.value = "";
		filter();
		place.scrollIntoView();
	}
}

search.addEventListener("input", () => {
	const text = search.value ? "=" + encodeURIComponent(search.value) : "";
	history.replaceState(null, "", "#" + show + text);
	filter();
});
addEventListener("hashchange", follow);

// Paper cannot be unfolded.
let closed = [];
addEventListener("beforeprint", () => {
	closed = [...document.querySelectorAll("details:not([open])")];
	closed.forEach((d) => { d.open = true; });
});
addEventListener("afterprint", () => closed.forEach((d) => { d.open = false; }));

document.getElementById("tools").hidden = false;
follow();
