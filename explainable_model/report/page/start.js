/** Start: fill the page, then listen. */

showHead();
showClusters();
showAgainst();
showClasses();
showStrengths();
fillFilters();
showPhotos();

byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("reset", () => setTimeout(() => { setOpacity(); showPhotos(); }));
for (const id of ["kind", "class", "label", "order"]) byId(id).addEventListener("change", showPhotos);
for (const id of ["low", "high", "search"]) byId(id).addEventListener("input", showPhotos);
byId("opacity").addEventListener("input", setOpacity);
byId("csv").addEventListener("click", downloadTable);
byId("more").addEventListener("click", showMore);
byId("close").addEventListener("click", () => byId("viewer").close());
new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && drawn < shown.length && showMore(), { rootMargin: "600px" })
  .observe(byId("more"));
document.body.dataset.ready = "true";
