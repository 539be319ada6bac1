"use strict";
// Filters are folded away on a phone, and open where there is room beside the hits.

if (matchMedia("(min-width: 56rem)").matches) document.querySelector("details[data-filters]").open = true;
