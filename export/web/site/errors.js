/** What the person in front of the page can do something about: shown in place, as it is written. */
export class UserError extends Error {}
