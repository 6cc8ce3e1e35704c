/** An error that the page's user can fix; the page shows its message. */
export class UserError extends Error {}
