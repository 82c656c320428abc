/** A text of at most about `limit` characters: of a longer one the beginning and the end, and how much is missing between. */
export function cutText(text: string, limit: number): string {
  if (text.length <= limit) return text;
  const half = Math.floor(limit / 2);
  return `${text.slice(0, half)}\n[… ${text.length - 2 * half} characters are left out …]\n${text.slice(-half)}`;
}
